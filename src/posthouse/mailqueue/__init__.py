"""The durable queue: the spool on disk, the schedule (pure), the runner, and the courier's face."""

"""The intake journal: what makes an acknowledged message durable, for a whole batch with one sync.

``content`` and ``operations`` are what callers hand in, ``journal`` takes it, ``recovery`` runs at start-up.
"""

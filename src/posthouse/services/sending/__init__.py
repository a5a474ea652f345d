"""What our own users send: how much of it, and what is told to the operator where that is too much."""

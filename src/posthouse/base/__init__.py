"""What every other package may use: errors and the clock. Imports nothing of ours."""

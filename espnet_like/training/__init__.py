"""Training: one trainer for all systems, its schedules, losses, data and checkpoints."""

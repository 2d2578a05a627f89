"""The fault campaign: faults are injected into the commands, and what they leave is compared with undisturbed runs."""

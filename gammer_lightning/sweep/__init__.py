"""Sweeps: many fits of one experiment, each with settings of its own."""

"""Figures of simulated training images and of model predictions."""

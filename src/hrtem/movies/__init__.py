"""Movies: column detection frame by frame, tracking through time, and simulation of surface diffusion."""

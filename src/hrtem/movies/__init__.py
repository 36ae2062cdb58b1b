"""Movies: frames found one by one, followed through time, and simulated with a surface that diffuses."""

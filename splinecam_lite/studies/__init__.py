"""Training studies: train a network and measure how its regions move."""

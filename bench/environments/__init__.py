"""Where guests get their packages from: locked environments, and what stands in for them."""

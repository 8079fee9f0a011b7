"""Numbers of the official implementations, and the runner that compares ours with them."""

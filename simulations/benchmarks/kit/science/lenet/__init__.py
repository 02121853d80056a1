"""LeNet-5 on MNIST: ways to a small network, and the smallest file."""

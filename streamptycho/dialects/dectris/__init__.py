"""The two streams of DECTRIS detectors, and of others that speak them."""

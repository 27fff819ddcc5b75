"""What a router is compared with: every way to answer a question through the same pool."""

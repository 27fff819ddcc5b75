"""Makes the embedded world's first policy: supervised traces teach a tiny model the format."""

"""Retrieval as a member of the pool: BM25 over local documents behind a chat endpoint."""

"""What each operation of the clients asks of the server."""

"""Training of the decoder that draws: its autoencoder, its flow, their export, and what its drawings are worth."""

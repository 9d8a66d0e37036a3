"""Using a model: KV cache, sampler, decoder, chat session, and the exam that marks its answers."""

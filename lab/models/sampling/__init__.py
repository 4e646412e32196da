"""How text is generated: decoding filters, the sampler, beam search, and a GPT-2's KV caches on a CPU and on a GPU."""

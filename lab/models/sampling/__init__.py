"""How text is generated: decoding filters, the sampler, caches on the CPU, graphs on a GPU."""

//! Benchmarks of adamllm; see the files beside this one.

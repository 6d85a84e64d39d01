//! Domain benchmarks, metrics and reports.

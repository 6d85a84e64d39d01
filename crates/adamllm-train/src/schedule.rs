use serde::{Deserialize, Serialize};

/// The course of the learning rate, with the exact rounding of transformers' schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: ScheduleKind,
    /// The warm-up's share of all steps; its length is rounded up.
    pub warmup: f64,
}

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// Half a cosine down to 0.
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// The peak.
    Constant,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { kind: ScheduleKind::Cosine, warmup: 0.1 }
    }
}

impl Schedule {
    /// Steps of warm-up.
    pub fn warmup_steps(&self, total: usize) -> usize {
        (self.warmup * total as f64).ceil() as usize
    }

    /// The factor on the peak rate in step `step` (from 0) of `total`. The first step of a warm-up has factor 0.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let warmup = self.warmup_steps(total);
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let progress = (step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64;
        match self.kind {
            ScheduleKind::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
            ScheduleKind::Linear => (1.0 - progress).max(0.0),
            ScheduleKind::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get_cosine_schedule_with_warmup(optimizer, 4, 20)`, rounded to 6 digits.
    #[test]
    fn equals_transformers() {
        let schedule = Schedule { kind: ScheduleKind::Cosine, warmup: 0.2 };
        let expected = [(0, 0.0), (1, 0.25), (4, 1.0), (5, 0.990_393), (12, 0.5), (19, 0.009_607)];
        for (step, factor) in expected {
            assert!((schedule.factor(step, 20) - factor).abs() < 1e-6, "step {step}");
        }
        assert_eq!(Schedule { warmup: 0.03, ..schedule }.warmup_steps(101), 4);
        // get_linear_schedule_with_warmup(optimizer, 4, 20), get_constant_schedule_with_warmup(optimizer, 4).
        let linear = [(0, 0.0), (2, 0.5), (4, 1.0), (5, 0.9375), (12, 0.5), (19, 0.0625)];
        for (step, factor) in linear {
            assert_eq!(Schedule { kind: ScheduleKind::Linear, ..schedule }.factor(step, 20), factor, "step {step}");
        }
        for (step, factor) in [(0, 0.0), (3, 0.75), (4, 1.0), (19, 1.0)] {
            assert_eq!(Schedule { kind: ScheduleKind::Constant, ..schedule }.factor(step, 20), factor, "step {step}");
        }
    }
}

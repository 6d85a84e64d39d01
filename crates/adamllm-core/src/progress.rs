/// Hears how far long work has come. Every method does nothing by default, and `()` listens to nothing.
pub trait Progress {
    /// A stage begins; `total` units of work are ahead (0 where unknown).
    fn begin(&mut self, _stage: &str, _total: u64) {}
    /// `n` more units are done.
    fn advance(&mut self, _n: u64) {}
    /// A short text beside the bar, such as the current loss.
    fn note(&mut self, _text: &str) {}
    /// The stage is over.
    fn end(&mut self) {}
}

impl Progress for () {}

impl<P: Progress + ?Sized> Progress for &mut P {
    fn begin(&mut self, stage: &str, total: u64) {
        (**self).begin(stage, total);
    }
    fn advance(&mut self, n: u64) {
        (**self).advance(n);
    }
    fn note(&mut self, text: &str) {
        (**self).note(text);
    }
    fn end(&mut self) {
        (**self).end();
    }
}

/// CPython's `random.Random(seed)` for integer seeds: MT19937 (Matsumoto and Nishimura, 1998) under CPython's
/// `getrandbits` and `choice`.
///
/// Two published protocols draw with it: the reference evaluator guesses an unparsed multiple choice with
/// `random.Random(syn_id).choice(options)`, and its data builder places the caption turn the same way. Nothing else in
/// this project uses it; see [`stream`](super::stream).
#[derive(Clone)]
pub struct PythonRandom {
    state: [u32; N],
    next: usize,
}

const N: usize = 624;
const M: usize = 397;

impl std::fmt::Debug for PythonRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PythonRandom").field("next", &self.next).finish_non_exhaustive()
    }
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let words = [seed as u32, (seed >> 32) as u32];
        let n_words = if words[1] == 0 { 1 } else { 2 };
        let mut random = Self { state: [0; N], next: N };
        random.init_by_array(&words[..n_words]);
        random
    }

    fn init_by_array(&mut self, key: &[u32]) {
        let state = &mut self.state;
        state[0] = 19_650_218;
        for i in 1..N {
            state[i] = 1_812_433_253u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// `getrandbits(32)`.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `_randbelow(n)`: `getrandbits(n.bit_length())` until it is below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "cannot draw from an empty range");
        let bits = 32 - n.leading_zeros();
        loop {
            let draw = self.next_u32() >> (32 - bits);
            if draw < n {
                return draw;
            }
        }
    }

    /// `choice(items)`.
    ///
    /// # Panics
    /// If `items` is empty.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden values of CPython: `[random.Random(i).choice("se") for i in range(32)]`, and `getrandbits(32)`.
    #[test]
    fn equals_cpython() {
        let drawn: String = (0..32).map(|i| *PythonRandom::new(i).choice(&['s', 'e'])).collect();
        assert_eq!(drawn, "esssseseseseeesseessssseeesesses");
        assert_eq!(PythonRandom::new(0).next_u32(), 3_626_764_237);
        assert_eq!(PythonRandom::new(42).next_u32(), 2_746_317_213);
        assert_eq!(PythonRandom::new(1 << 40).next_u32(), GOLDEN_2_40);
    }

    const GOLDEN_2_40: u32 = 445_128_065;
}

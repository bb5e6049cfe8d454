//! The matches that GNU gzip -9 finds: hash chains over the last 32 KiB, and a match that waits for a better one.
//!
//! Where several matches are as good, and where two have the same hash, which one is taken decides over the bytes that come
//! out; so all of it is as GNU gzip has it, with positions of the whole input in the place of those in its window.

/// How far back a match may begin, and how far GNU gzip's window moves at a time.
pub(super) const WINDOW: usize = 1 << 15;
/// The shortest and the longest match (RFC 1951, 3.2.5).
pub(super) const SHORTEST: usize = 3;
const LONGEST: usize = 258;
/// Bytes that GNU gzip wants to see ahead; a match is that much nearer than the window is wide.
pub(super) const AHEAD: usize = LONGEST + SHORTEST + 1;
const FARTHEST: usize = WINDOW - AHEAD;
/// Beyond this distance a match of three bytes is not worth its bits.
const FARTHEST_OF_SHORTEST: usize = 4096;
/// Bytes behind the input's end that are zero.
const CLEARED: usize = SHORTEST - 1;
/// How many earlier places are looked at, and from which length of the waiting match on a quarter of them (level 9).
const CHAIN: usize = 4096;
const GOOD: usize = 32;

/// A byte as it is, or a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// How far back the match begins; 0 for a byte.
    pub distance: u16,
    /// The byte, or the match's length.
    pub value: u16,
}

impl Token {
    /// How many bytes of input it stands for.
    pub(super) fn length(self) -> usize {
        if self.distance == 0 { 1 } else { self.value.into() }
    }
}

/// The bytes to compress, and behind them those that GNU gzip's window would hold there.
pub(super) struct Input {
    bytes: Vec<u8>,
    /// How many are to be compressed.
    pub length: usize,
}

impl Input {
    /// Takes them.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        // GNU gzip clears two bytes at the end. Behind them is what was there before its window moved last, if it did.
        bytes.extend_from_slice(&[0; CLEARED]);
        if length > 2 * WINDOW {
            let old = length + CLEARED - WINDOW;
            bytes.extend_from_within(old..old + LONGEST);
        } else {
            bytes.extend_from_slice(&[0; LONGEST]);
        }
        Self { bytes, length }
    }

    /// All that is to be compressed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn hash(&self, at: usize) -> usize {
        let [a, b, c] = [0, 1, 2].map(|i| usize::from(self.bytes[at + i]));
        (a << 10 ^ b << 5 ^ c) & (WINDOW - 1)
    }

    fn four(&self, at: usize) -> [u8; 4] {
        *self.bytes[at..].first_chunk().expect("bytes beyond the end")
    }

    /// How many bytes are the same from both places on, up to the longest match.
    fn common(&self, one: usize, other: usize) -> usize {
        let (one, other) = (&self.bytes[one..one + LONGEST], &self.bytes[other..other + LONGEST]);
        let word = |of: &[u8]| u64::from_le_bytes(of.try_into().expect("eight"));
        let mut same = 0;
        for (a, b) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
            let differ = word(a) ^ word(b);
            if differ != 0 {
                return same + differ.trailing_zeros() as usize / 8;
            }
            same += 8;
        }
        same + one[same..].iter().zip(&other[same..]).take_while(|(a, b)| a == b).count()
    }
}

/// Where the window stands that GNU gzip moves over its input: what it does not see is not matched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The position of its first byte.
    pub base: usize,
    ended: bool,
}

impl Window {
    /// The window when `at` is next to be looked at, far from the input's end.
    pub(super) fn at(at: usize) -> Self {
        let beyond = at.saturating_sub(WINDOW + FARTHEST);
        Self { base: beyond.next_multiple_of(WINDOW), ended: false }
    }

    /// Moves and fills it as long as too little is seen ahead of `at`.
    fn advance(&mut self, at: usize, length: usize) {
        while !self.ended && length.min(self.base + 2 * WINDOW) - at < AHEAD {
            let filled = length.min(self.base + 2 * WINDOW);
            if at - self.base >= WINDOW + FARTHEST {
                self.base += WINDOW;
            }
            self.ended = filled == length;
        }
    }
}

/// What one run over a part of the input found.
pub(super) struct Found {
    /// In order, without a gap.
    pub tokens: Vec<Token>,
    /// Where they begin.
    pub begin: usize,
    /// Where they end: at the end of a match, or of the input.
    pub end: usize,
    /// The window at that place.
    pub window: Window,
}

impl Found {
    /// Where its matches end, each with the number of tokens up to there.
    pub(super) fn ends(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = self.begin;
        self.tokens.iter().zip(1..).filter_map(move |(token, count)| {
            at += token.length();
            (token.distance != 0).then_some((at, count))
        })
    }
}

/// Finds matches from `begin`, as if a match ended there, up to the end of the first one that ends at or after `stop`.
pub(super) fn find(input: &Input, begin: usize, stop: usize) -> Found {
    let mut chains = Chains::new(input, begin);
    let mut window = Window::at(begin);
    let mut tokens = Vec::with_capacity((stop.min(input.length) - begin) / 4);
    let (mut at, mut waiting) = (begin, false);
    let (mut length, mut start) = (SHORTEST - 1, 0);
    while at < input.length {
        let nearest = chains.insert(at);
        let (before, from) = (length, start);
        length = SHORTEST - 1;
        if nearest != 0 && before < LONGEST && at - nearest <= FARTHEST && at <= window.base + WINDOW + FARTHEST {
            (length, start) = chains.longest(at, nearest, before, start);
            length = length.min(input.length - at);
            if length == SHORTEST && at - start > FARTHEST_OF_SHORTEST {
                length -= 1;
            }
        }
        if before >= SHORTEST && length <= before {
            tokens.push(Token { distance: (at - 1 - from) as u16, value: before as u16 });
            let end = at - 1 + before;
            for place in at + 1..end {
                chains.insert(place);
            }
            (at, length, waiting) = (end, SHORTEST - 1, false);
            window.advance(at, input.length);
            if at >= stop && input.length - at >= AHEAD {
                break;
            }
            continue;
        }
        if waiting {
            tokens.push(Token { distance: 0, value: input.bytes[at - 1].into() });
        }
        waiting = true;
        at += 1;
        window.advance(at, input.length);
    }
    if waiting {
        tokens.push(Token { distance: 0, value: input.bytes[at - 1].into() });
    }
    Found { tokens, begin, end: at, window }
}

/// For each hash the latest place that has it, and for each place of the window how far before it the one with the same
/// hash is. Place 0 stands for none, which GNU gzip does not match either; so does a distance of 0.
struct Chains<'a> {
    input: &'a Input,
    latest: Vec<u32>,
    earlier: Vec<u16>,
}

impl<'a> Chains<'a> {
    /// As they are before `at`.
    fn new(input: &'a Input, at: usize) -> Self {
        let mut chains = Self { input, latest: vec![0; WINDOW], earlier: vec![0; WINDOW] };
        for place in at.saturating_sub(WINDOW)..at {
            chains.insert(place);
        }
        chains
    }

    /// Adds `at`, and gives the place before it with the same hash.
    fn insert(&mut self, at: usize) -> usize {
        let nearest = std::mem::replace(&mut self.latest[self.input.hash(at)], at as u32) as usize;
        let distance = if nearest == 0 { 0 } else { at - nearest };
        self.earlier[at % WINDOW] = u16::try_from(distance).unwrap_or(0);
        nearest
    }

    /// The first of the longest matches for `at` that are longer than `length`, which is that of the one at `start`; the
    /// chain begins with `nearest`.
    fn longest(&self, at: usize, nearest: usize, mut length: usize, mut start: usize) -> (usize, usize) {
        let limit = at.saturating_sub(FARTHEST);
        let chain = if length >= GOOD { CHAIN / 4 } else { CHAIN };
        // What a longer match has to have at its end: most places fail there, at the price of one comparison.
        let tail = |place: usize, length: usize| self.input.four((place + length).saturating_sub(SHORTEST));
        let (mut wanted, mut place) = (tail(at, length), nearest);
        for _ in 0..chain {
            if length == SHORTEST - 1 || tail(place, length) == wanted {
                let common = self.input.common(place, at);
                if common > length {
                    (length, start) = (common, place);
                    if length == LONGEST {
                        break;
                    }
                    wanted = tail(at, length);
                }
            }
            let back = usize::from(self.earlier[place % WINDOW]);
            if back == 0 || place <= limit + back {
                break;
            }
            place -= back;
        }
        (length, start)
    }
}

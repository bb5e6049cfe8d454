//! Deflate's blocks with the codes that GNU gzip gives them (RFC 1951), of tokens that are found already.

use super::huffman::{Code, LONGEST_CODE};
use super::matches::{SHORTEST, Token, Window};

/// A block has at most this many tokens, which is one less than GNU gzip's buffer holds.
const FULL: usize = 0x7fff;
/// How often GNU gzip asks whether a block has become worth ending.
const ASK: usize = 0x1000;

const END: usize = 256;
const LENGTHS: usize = 286;
const DISTANCES: usize = 30;

/// Extra bits of each length code and each distance code (RFC 1951, 3.2.5), and of the codes for code lengths (3.2.7).
const LENGTH_BITS: [u8; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BITS: [u8; DISTANCES] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const REPEAT_BITS: [u8; 19] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
/// The order in which the lengths of the codes for code lengths are sent (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The blocks of a stream, as bytes.
pub(super) struct Blocks<'a> {
    input: &'a [u8],
    bits: Bits,
    tokens: Vec<Token>,
    lengths: [u32; LENGTHS],
    distances: [u32; DISTANCES],
    matches: usize,
    /// Where the block begins, and how far its tokens reach.
    begin: usize,
    at: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(input: &'a [u8]) -> Self {
        let mut blocks = Self {
            input,
            bits: Bits::default(),
            tokens: Vec::with_capacity(FULL),
            lengths: [0; LENGTHS],
            distances: [0; DISTANCES],
            matches: 0,
            begin: 0,
            at: 0,
        };
        blocks.lengths[END] = 1;
        blocks
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, token: Token) {
        self.tokens.push(token);
        if token.distance == 0 {
            self.lengths[usize::from(token.value)] += 1;
        } else {
            self.lengths[END + 1 + length_code(token).0] += 1;
            self.distances[distance_code(token).0] += 1;
            self.matches += 1;
        }
        // GNU gzip takes a token when it looks at the byte after the token's first.
        let looks_at = self.at + 1;
        self.at += token.length();
        if self.tokens.len() == FULL || self.tokens.len().is_multiple_of(ASK) && self.is_worth_ending(looks_at) {
            self.end(false, Window::at(looks_at));
        }
    }

    /// Ends the last block, and gives all that was written.
    pub(super) fn finish(mut self, window: Window) -> Vec<u8> {
        self.end(true, window);
        self.bits.fill();
        self.bits.out
    }

    /// GNU gzip's guess: few matches, and by an upper bound half of the input's size.
    fn is_worth_ending(&self, looks_at: usize) -> bool {
        let matches: u32 = self.distances.iter().zip(DISTANCE_BITS).map(|(n, extra)| n * (5 + u32::from(extra))).sum();
        let most = (self.tokens.len() * 8 + matches as usize) / 8;
        self.matches < self.tokens.len() / 2 && most < (looks_at - self.begin) / 2
    }

    fn end(&mut self, last: bool, window: Window) {
        let lengths = Code::of(&self.lengths, LONGEST_CODE);
        let distances = Code::of(&self.distances, LONGEST_CODE);
        let header = Header::of(&lengths, &distances);
        let extra = |code: usize| if code > END { LENGTH_BITS[code - END - 1] } else { 0 };
        let cost = |bits: &[u8], of: &[u32], extra: &dyn Fn(usize) -> u8| -> usize {
            of.iter().enumerate().map(|(code, n)| *n as usize * usize::from(bits[code] + extra(code))).sum()
        };
        let of_distance = |code: usize| DISTANCE_BITS[code];
        let own = header.cost()
            + cost(&lengths.bits, &self.lengths, &extra)
            + cost(&distances.bits, &self.distances, &of_distance);
        let fixed = (Code::fixed_lengths(), Code::fixed_distances());
        let fixed_cost =
            cost(&fixed.0.bits, &self.lengths, &extra) + cost(&fixed.1.bits, &self.distances, &of_distance);
        let (own, fixed_cost) = ((own + 3).div_ceil(8), (fixed_cost + 3).div_ceil(8));
        let stored = &self.input[self.begin..self.at];
        let last_bit = u32::from(last);
        if stored.len() + 4 <= own.min(fixed_cost) && self.begin >= window.base {
            self.bits.put(last_bit, 3);
            self.bits.store(stored);
        } else if fixed_cost <= own {
            self.bits.put(1 << 1 | last_bit, 3);
            self.bits.put_all(&self.tokens, &fixed.0, &fixed.1);
        } else {
            self.bits.put(2 << 1 | last_bit, 3);
            header.put(&mut self.bits);
            self.bits.put_all(&self.tokens, &lengths, &distances);
        }
        self.tokens.clear();
        (self.lengths, self.distances, self.matches, self.begin) = ([0; LENGTHS], [0; DISTANCES], 0, self.at);
        self.lengths[END] = 1;
    }
}

/// A match's length code, and how much of its length that code leaves to extra bits.
fn length_code(token: Token) -> (usize, u32) {
    split(u32::from(token.value) - SHORTEST as u32, 2, 28)
}

/// A match's distance code, and what it leaves.
fn distance_code(token: Token) -> (usize, u32) {
    split(u32::from(token.distance) - 1, 1, DISTANCES)
}

/// RFC 1951's codes grow like this: `2^fine` codes for each power of two, with as many extra bits as that takes.
fn split(value: u32, fine: u32, codes: usize) -> (usize, u32) {
    // The longest length has a code of its own.
    if codes == 28 && value == 255 {
        return (28, 0);
    }
    let extra = (u32::BITS - (value >> fine).leading_zeros()).saturating_sub(1);
    ((extra << fine) as usize + (value >> extra) as usize, value & ((1 << extra) - 1))
}

/// What stands before a block that has a code of its own: both codes' lengths, run-length coded (RFC 1951, 3.2.7).
struct Header {
    /// A symbol, its extra bits, and how many.
    runs: Vec<(usize, u32)>,
    code: Code,
    sent: usize,
    sizes: (usize, usize),
}

impl Header {
    fn of(lengths: &Code, distances: &Code) -> Self {
        let mut runs = Vec::new();
        add_runs(&lengths.bits[..=lengths.last], &mut runs);
        add_runs(&distances.bits[..=distances.last], &mut runs);
        let mut counts = [0; 19];
        runs.iter().for_each(|(symbol, _)| counts[*symbol] += 1);
        let code = Code::of(&counts, 7);
        let sent = ORDER.iter().rposition(|symbol| code.bits[*symbol] > 0).map_or(4, |last| (last + 1).max(4));
        Self { runs, code, sent, sizes: (lengths.last + 1, distances.last + 1) }
    }

    fn cost(&self) -> usize {
        let runs: usize =
            self.runs.iter().map(|(symbol, _)| usize::from(self.code.bits[*symbol] + REPEAT_BITS[*symbol])).sum();
        5 + 5 + 4 + 3 * self.sent + runs
    }

    fn put(&self, bits: &mut Bits) {
        bits.put(self.sizes.0 as u32 - 257, 5);
        bits.put(self.sizes.1 as u32 - 1, 5);
        bits.put(self.sent as u32 - 4, 4);
        ORDER[..self.sent].iter().for_each(|symbol| bits.put(self.code.bits[*symbol].into(), 3));
        for (symbol, extra) in &self.runs {
            bits.put_symbol(&self.code, *symbol);
            bits.put(*extra, REPEAT_BITS[*symbol].into());
        }
    }
}

/// The lengths as runs: 16 repeats the last one three to six times, 17 and 18 stand for zeros.
fn add_runs(lengths: &[u8], runs: &mut Vec<(usize, u32)>) {
    for run in lengths.chunk_by(|a, b| a == b) {
        let (length, mut left) = (usize::from(run[0]), run.len());
        if length > 0 {
            runs.push((length, 0));
            left -= 1;
        }
        let most = if length > 0 { 6 } else { 138 };
        while left > 0 {
            let now = left.min(most);
            left -= now;
            match (now, length) {
                (1..=2, _) => runs.extend(std::iter::repeat_n((length, 0), now)),
                (_, 1..) => runs.push((16, now as u32 - 3)),
                (3..=10, 0) => runs.push((17, now as u32 - 3)),
                _ => runs.push((18, now as u32 - 11)),
            }
        }
    }
}

/// Bits, the lowest of a byte first (RFC 1951, 3.1.1).
#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    fn put_symbol(&mut self, code: &Code, symbol: usize) {
        self.put(code.codes[symbol].into(), code.bits[symbol].into());
    }

    fn put_all(&mut self, tokens: &[Token], lengths: &Code, distances: &Code) {
        for &token in tokens {
            if token.distance == 0 {
                self.put_symbol(lengths, token.value.into());
                continue;
            }
            let (code, extra) = length_code(token);
            self.put_symbol(lengths, END + 1 + code);
            self.put(extra, LENGTH_BITS[code].into());
            let (code, extra) = distance_code(token);
            self.put_symbol(distances, code);
            self.put(extra, DISTANCE_BITS[code].into());
        }
        self.put_symbol(lengths, END);
    }

    /// Fills the last byte with zeros.
    fn fill(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
        (self.held, self.count) = (0, 0);
    }

    fn store(&mut self, bytes: &[u8]) {
        self.fill();
        let length = bytes.len() as u16;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&(!length).to_le_bytes());
        self.out.extend_from_slice(bytes);
    }
}

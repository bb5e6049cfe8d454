//! A gzip stream byte for byte as GNU gzip -9 writes it, made by all processors at once.

mod blocks;
mod huffman;
mod matches;

use blocks::Blocks;
use matches::{AHEAD, Found, Input};
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Each processor takes parts of this size.
const PART: usize = 1 << 20;
/// How far a part's matches go on into the next one, to meet the matches found from there.
const OVERLAP: usize = 1 << 14;

/// Compresses `bytes` to what `gzip -9n` makes of them (RFC 1951 and 1952 leave much to choose).
///
/// Exact for all lengths but 65,275 to 65,536 bytes, where GNU gzip may see what its window never held; a tar has none of
/// these.
pub fn compress(bytes: Vec<u8>) -> Vec<u8> {
    compress_parts(bytes, PART)
}

fn compress_parts(bytes: Vec<u8>, part: usize) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    let input = Input::new(bytes);
    // Deflated, no name, no time, slowest, Unix (RFC 1952, 2.3.1).
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3];
    let mut blocks = Blocks::of(input.bytes());
    let found = find_all(&input, part).into_iter();
    let last = found.reduce(|before, after| join(&input, &mut blocks, before, after)).expect("a part");
    last.tokens.iter().for_each(|token| blocks.push(*token));
    out.extend(blocks.finish(last.window));
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    out
}

/// What is found from the begin of each part on, in order.
fn find_all(input: &Input, part: usize) -> Vec<Found> {
    let begins: Vec<usize> = (0..(input.length / part).max(1)).map(|n| n * part).collect();
    let found: Vec<OnceLock<Found>> = begins.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(begin) = begins.get(turn) else { break };
            let stop = begins.get(turn + 1).map_or(input.length, |next| next + OVERLAP);
            found[turn].get_or_init(|| matches::find(input, *begin, stop));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_iter().map(|found| found.into_inner().expect("every part")).collect()
}

/// Writes what was found `before`, up to where a match ends that `after` has ending there too: from there on both are the
/// same. Gives the rest of `after`; or, where they do not meet, what follows the end of `before`.
fn join(input: &Input, blocks: &mut Blocks, mut before: Found, mut after: Found) -> Found {
    let theirs: Vec<_> = after.ends().collect();
    // Near the input's end what follows hangs on the way there too.
    let mut ours = before.ends().filter(|(at, _)| *at >= after.begin && input.length - at >= AHEAD);
    let met = ours.find_map(|(at, i)| {
        let j = theirs.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        Some((at, i, theirs[j].1))
    });
    drop(ours);
    let rest = match met {
        Some((at, i, j)) => {
            before.tokens.truncate(i);
            after.tokens.drain(..j);
            Found { begin: at, ..after }
        }
        None if before.end == input.length => return before,
        None => matches::find(input, before.end, after.end),
    };
    before.tokens.iter().for_each(|token| blocks.push(*token));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::program::Program;

    /// Numbers without a pattern, and always the same.
    fn noise(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    /// Bytes without a pattern, repetitions from near and far, runs, and text, in turns.
    fn mixture(length: usize, seed: u64) -> Vec<u8> {
        let mut next = noise(seed);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let most = if next(20) == 0 { 40_000 } else { 400 };
            let more = 1 + next(most) as usize;
            let back = 1 + next(50_000) as usize;
            match next(5) {
                0 => bytes.extend((0..more).map(|_| next(256) as u8)),
                1 => bytes.extend(std::iter::repeat_n(next(256) as u8, more)),
                2 => bytes.extend((0..more).map(|_| b"etaoin shrdlu"[next(13) as usize])),
                _ if bytes.len() > back => (0..more).for_each(|_| bytes.push(bytes[bytes.len() - back])),
                _ => bytes.extend((0..more).map(|i| i as u8)),
            }
        }
        bytes.truncate(length);
        bytes
    }

    fn hold(what: &str, bytes: &[u8], part: usize) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let theirs = Program::new("gzip").arg("-9nc").arg(file.path()).run().unwrap();
        assert!(compress_parts(bytes.to_vec(), part) == theirs, "{what}: {} bytes in parts of {part}", bytes.len());
    }

    #[test]
    fn every_byte_is_gnu_gzips() {
        for length in [0, 1, 2, 3, 262, 65_274, 65_537, 65_800, 98_304, 98_305, 300_000] {
            hold("mixture", &mixture(length, length as u64), PART);
        }
        for seed in 0..8 {
            hold("mixture", &mixture(700_000, seed), 150_000);
        }
        // Ends of every kind, where what GNU gzip's window held before comes into view.
        for seed in 0..60 {
            hold("mixture", &mixture(65_537 + noise(seed)(70_000) as usize, seed), PART);
        }
        let mut next = noise(1);
        let phrases: Vec<u8> = (0..400_000)
            .map(|i| if next(70) == 0 { next(256) as u8 } else { b"etaoin shrdlu"[i % 101 % 13] })
            .collect();
        hold("phrases with one letter changed", &phrases, PART);
        let random: Vec<u8> = (0..400_000).map(|_| next(256) as u8).collect();
        hold("stored blocks", &random, PART);
        hold("no match where the parts meet", &random, 70_000);
        hold("zeros", &[0; 400_000], 100_000);
        hold("codes that would be too long", &fibonacci(), PART);
    }

    /// Bytes so unequally often that a Huffman code would need more bits than there may be.
    fn fibonacci() -> Vec<u8> {
        let (mut bytes, mut counts) = (Vec::new(), (1, 1));
        for byte in 0..22u8 {
            bytes.extend(std::iter::repeat_n(byte, counts.0));
            counts = (counts.1, counts.0 + counts.1);
        }
        // Out of order, so that there are no runs to match.
        let mut next = noise(2);
        (1..bytes.len()).rev().for_each(|i| bytes.swap(i, next(i as u64 + 1) as usize));
        bytes.truncate(32_000);
        bytes.resize(70_000, 0);
        bytes
    }
}

//! Huffman codes with the lengths that GNU gzip gives them.

/// No code of lengths or distances has more bits (RFC 1951, 3.2.7).
pub(super) const LONGEST_CODE: usize = 15;

/// A Huffman code: of each symbol how many bits, and which.
pub(super) struct Code {
    /// How many; 0 for a symbol that does not occur.
    pub bits: Vec<u8>,
    /// Which, in the order in which they are sent.
    pub codes: Vec<u16>,
    /// The last symbol that has any.
    pub last: usize,
}

impl Code {
    /// The code for symbols that occur so often, none of more than `longest` bits.
    pub(super) fn of(counts: &[u32], longest: usize) -> Self {
        let (bits, last) = Tree::grow(counts).lengths(counts.len(), longest);
        let codes = codes(&bits);
        Self { bits, codes, last }
    }

    /// Bytes and lengths in a block without a code of its own (RFC 1951, 3.2.6).
    pub(super) fn fixed_lengths() -> Self {
        let bits = |symbol: u16| match symbol {
            0..=143 | 280.. => 8,
            144..=255 => 9,
            256..=279 => 7,
        };
        Self::with((0..288).map(bits).collect())
    }

    /// Distances in a block without a code of its own.
    pub(super) fn fixed_distances() -> Self {
        Self::with(vec![5; 30])
    }

    fn with(bits: Vec<u8>) -> Self {
        Self { codes: codes(&bits), last: bits.len() - 1, bits }
    }
}

/// The codes for these lengths (RFC 1951, 3.2.2), their bits in the order in which they are sent.
fn codes(bits: &[u8]) -> Vec<u16> {
    let mut next = [0u16; LONGEST_CODE + 2];
    let of_length = |length: usize| bits.iter().filter(|bits| usize::from(**bits) == length).count() as u16;
    for length in 1..=LONGEST_CODE {
        let before = if length == 1 { 0 } else { of_length(length - 1) };
        next[length] = (next[length - 1] + before) << 1;
    }
    let code = |bits: &u8| {
        let length = usize::from(*bits);
        if length == 0 {
            return 0;
        }
        next[length] += 1;
        (next[length] - 1).reverse_bits() >> (16 - length)
    };
    bits.iter().map(code).collect()
}

/// A Huffman tree. Which of two nodes of one weight comes first decides over the lengths, so the heap is GNU gzip's.
struct Tree {
    weights: Vec<u32>,
    depths: Vec<u8>,
    parents: Vec<usize>,
    heap: Vec<usize>,
    /// The nodes in the order in which they were taken, the root last.
    taken: Vec<usize>,
}

impl Tree {
    fn grow(counts: &[u32]) -> Self {
        let mut weights = counts.to_vec();
        // Slot 0 is unused: the sons of slot n are 2n and 2n+1.
        let mut heap = vec![0];
        heap.extend((0..counts.len()).filter(|symbol| counts[*symbol] > 0));
        // A code has at least two symbols.
        while heap.len() < 3 {
            let most = heap[1..].iter().max();
            let symbol = match most {
                None => 0,
                Some(most) if *most < 2 => most + 1,
                Some(_) => 0,
            };
            weights[symbol] = 1;
            heap.push(symbol);
        }
        let nodes = weights.len();
        let mut tree = Self { depths: vec![0; nodes], parents: vec![0; nodes], weights, heap, taken: Vec::new() };
        (1..=(tree.heap.len() - 1) / 2).rev().for_each(|slot| tree.sink(slot));
        while tree.heap.len() > 2 {
            tree.join();
        }
        tree.taken.push(tree.heap[1]);
        tree
    }

    /// Joins the two lightest nodes under a new one.
    fn join(&mut self) {
        let one = self.heap[1];
        self.heap.swap_remove(1);
        self.sink(1);
        let other = self.heap[1];
        self.taken.extend([one, other]);
        let node = self.weights.len();
        self.weights.push(self.weights[one] + self.weights[other]);
        self.depths.push(self.depths[one].max(self.depths[other]) + 1);
        self.parents.push(0);
        (self.parents[one], self.parents[other]) = (node, node);
        self.heap[1] = node;
        self.sink(1);
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        (self.weights[one], self.depths[one]) <= (self.weights[other], self.depths[other])
    }

    fn sink(&mut self, mut slot: usize) {
        let Some(&node) = self.heap.get(slot) else { return };
        let mut son = slot * 2;
        while son < self.heap.len() {
            if son + 1 < self.heap.len() && self.is_before(self.heap[son + 1], self.heap[son]) {
                son += 1;
            }
            if self.is_before(node, self.heap[son]) {
                break;
            }
            self.heap[slot] = self.heap[son];
            (slot, son) = (son, son * 2);
        }
        self.heap[slot] = node;
    }

    /// How many bits each of the `symbols` gets, none more than `longest`; and the last symbol that gets any.
    fn lengths(&self, symbols: usize, longest: usize) -> (Vec<u8>, usize) {
        let mut bits = vec![0; self.weights.len()];
        let mut of_length = vec![0usize; longest + 1];
        let mut too_long = 0;
        for &node in self.taken.iter().rev().skip(1) {
            let wanted = bits[self.parents[node]] + 1;
            too_long += usize::from(wanted > longest);
            bits[node] = wanted.min(longest);
            if node < symbols {
                of_length[bits[node]] += 1;
            }
        }
        if too_long > 0 {
            shorten(&mut of_length, too_long);
            let mut leaves = self.taken.iter().filter(|node| **node < symbols);
            for length in (1..=longest).rev() {
                leaves.by_ref().take(of_length[length]).for_each(|leaf| bits[*leaf] = length);
            }
        }
        let bits: Vec<u8> = bits[..symbols].iter().map(|bits| *bits as u8).collect();
        let last = bits.iter().rposition(|bits| *bits > 0).expect("two symbols at least");
        (bits, last)
    }
}

/// Makes room for what would be too long: a shorter code is given up for two that are one bit longer.
fn shorten(of_length: &mut [usize], mut too_long: usize) {
    let longest = of_length.len() - 1;
    while too_long > 0 {
        let bits = (1..longest).rev().find(|bits| of_length[*bits] > 0).expect("a shorter code");
        of_length[bits] -= 1;
        of_length[bits + 1] += 2;
        of_length[longest] -= 1;
        too_long = too_long.saturating_sub(2);
    }
}

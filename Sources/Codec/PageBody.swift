import Model

/// Pages into the bodies of `pages` frames and back, and the same for device state.
///
/// Owns the layout of those bodies, the comparison with the version that the standby holds, and the second stage of
/// compression; touches only buffers that the caller hands in and its own scratch memory. It may call Model, CKernels,
/// and the C libraries zstd and LZ4. Encoding is deterministic. Decoding is total: a body is checked whole, against the
/// block it is for, before the first byte of the target is written; it is applied whole or not at all. Applying a body
/// twice is harmless, because it holds new contents and never differences.
///
/// A body is 20 bytes of head, the page stream, compressed if `codec` says so, and the stored pages:
///
///      0  block     u16   position in the list of the offer
///      2  codec     u8    `Compression`: 0 none, 1 LZ4 block, 2 zstd
///      3  reserved  u8    0
///      4  pages     u32   pages of the body, 1...1024
///      8  contents  u32   bytes of the stream's first part, before compression
///     12  list      u32   bytes of the stream's second part, before compression
///     16  stored    u32   pages stored
///
/// The stream is the contents, then the list: like compresses best beside like. The list holds, for each page, page
/// numbers strictly rising:
///
///     tag   LEB128, at most 5 bytes: (number - (previous number + 1)) * 8 + kind; before the first page, previous is -1
///     kind 1, zero: nothing
///     kind 2, raw: nothing; the contents have the page's 4096 bytes
///     kind 3, delta:
///         lines   u64    bit i: 64-byte line i changed; not 0
///         masks   u8...  for each changed line in order, bit w: its 8-byte word w changed; not 0
///         the contents have the new contents of those words, in order
///     kind 4, stored: nothing; the page's 4096 bytes are the next of the stored pages
///     kind 5, copy:
///         source  u16    position of an earlier page of this body that has the same contents
///
/// A page that did not change is in no list. Other kinds are invalid. Nothing of the contents or of the stored pages is left
/// over.
enum PageBody {
    static let headSize = 20
    static let tagMax = 5
    /// What a page takes in the list at most.
    static let entryMax = tagMax + 8 + 64
    /// No encoder makes a longer stream: it is that of as many raw pages as a body may hold.
    static let streamMax = PageDecoder.pagesMax * (pageSize + tagMax)
}

enum PageKind: UInt8 {
    case zero = 1
    case raw = 2
    case delta = 3
    case stored = 4
    case copy = 5
}

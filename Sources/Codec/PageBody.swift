import Model

/// Pages into the bodies of `pages` frames and back, and the same for device state.
///
/// Owns the layout of those bodies, the comparison with the version that the standby holds, and the second stage of
/// compression; touches only buffers that the caller hands in and its own scratch memory. It may call Model, CKernels,
/// and the C libraries zstd and LZ4. Encoding is deterministic. Decoding is total: a body is checked whole, against the
/// block it is for, before the first byte of the target is written; it is applied whole or not at all. Applying a body
/// twice is harmless, because it holds new contents and never differences.
///
/// A body is 12 bytes of head and the page stream, compressed if `codec` says so:
///
///      0  block           u16   position in the list of the offer
///      2  codec           u8    `SecondStage`: 0 none, 1 LZ4 block, 2 zstd
///      3  reserved        u8    0
///      4  pageCount       u32   pages in the stream, 1...1024
///      8  stageOneLength  u32   bytes of the page stream before compression
///
/// The page stream is, for each page, page numbers strictly rising:
///
///     tag   LEB128, at most 5 bytes: (number - (previous number + 1)) * 4 + kind; before the first page, previous is -1
///     kind 1, zero: nothing
///     kind 2, raw: the page's 4096 bytes
///     kind 3, delta:
///         lines   u64    bit i: 64-byte line i changed; not 0
///         masks   u8...  for each changed line in order, bit w: its 8-byte word w changed; not 0
///         words          the new contents of those words, in order
///
/// A page that did not change is not in the stream. Kind 0 is invalid.
enum PageBody {
    static let headSize = 12
    static let rawTagMax = 5
    /// No encoder makes a stage one longer than this: as many raw pages as a body may hold.
    static let stageOneMax = PageDecoder.pagesMax * (pageSize + rawTagMax)
}

enum PageKind: UInt8 {
    case zero = 1
    case raw = 2
    case delta = 3
}

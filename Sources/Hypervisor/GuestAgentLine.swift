import Model

/// A line to the agent that runs in a guest, which is asked whether it is there. Nothing here blocks. Used by one thread; it lives
/// longer than the `Guest` that it was had of.
public protocol GuestAgentLine: AnyObject {
    /// Of the hypervisor: the line, and its port in the guest where that has a name.
    var name: String { get }
    var port: String? { get }
    /// False when it cannot be opened now, or nobody is at the hypervisor's end any more.
    var isOpen: Bool { get }
    /// Opens it anew.
    func open()
    /// The agent is to answer with this number.
    func ask(_ number: UInt64)
    /// The numbers that were written in the guest since the last call, whoever wrote them.
    func takeAnswers() -> [UInt64]
}

/// Finds answers in what a guest wrote. Keeps no more of it than one short line, whatever is written.
public struct GuestAgentReader: Sendable {
    /// An answer is shorter.
    static let lineMax = 128
    private var line: [UInt8] = []
    /// The rest of a line that is too long for an answer.
    private var skips = false

    public init() {}

    /// Bytes as they came. Returns the numbers of whole answers to `guest-sync-delimited` (qga/qapi-schema.json): a byte 0xFF, then
    /// `{"return": NUMBER}` and a line's end.
    public mutating func read(_ bytes: UnsafeRawBufferPointer) -> [UInt64] {
        var numbers: [UInt64] = []
        for byte in bytes {
            switch byte {
            case 0xFF:
                // Whatever was written before belongs to nobody.
                line.removeAll(keepingCapacity: true)
                line.append(byte)
                skips = false
            case UInt8(ascii: "\n"):
                if !skips, let number = Self.number(line) { numbers.append(number) }
                line.removeAll(keepingCapacity: true)
                skips = false
            default:
                guard !skips else { continue }
                skips = line.count >= Self.lineMax
                if !skips { line.append(byte) }
            }
        }
        return numbers
    }

    private static func number(_ line: [UInt8]) -> UInt64? {
        guard line.first == 0xFF else { return nil }
        let text = line.dropFirst().filter { ![0x09, 0x0D, 0x20].contains($0) }
        let (head, tail) = (Array(#"{"return":"#.utf8), Array("}".utf8))
        guard text.starts(with: head), text.count > head.count + tail.count, text.suffix(tail.count) == tail[...]
        else { return nil }
        var number: UInt64 = 0
        for byte in text.dropFirst(head.count).dropLast(tail.count) {
            guard (0x30...0x39).contains(byte) else { return nil }
            let (tens, isLarge) = number.multipliedReportingOverflow(by: 10)
            let (sum, isLarger) = tens.addingReportingOverflow(UInt64(byte - 0x30))
            if isLarge || isLarger { return nil }
            number = sum
        }
        return number
    }
}

import CLinux
import Glibc

/// A system call that failed: what was tried, on what, and why.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried, as an infinitive: "open", "map 4096 bytes of".
    public var operation: String
    public var errno: Int32
    /// The path, process or object it was tried on.
    public var subject: String
    /// The way out, when there is a better one than what errno suggests.
    public var advice: String?

    public init(operation: String, errno: Int32, subject: String, advice: String? = nil) {
        self.operation = operation
        self.errno = errno
        self.subject = subject
        self.advice = advice
    }

    public var description: String {
        let reason = rml_error_text(errno).map { String(cString: $0) } ?? "unknown error"
        let name = rml_error_name(errno).map { String(cString: $0) } ?? String(errno)
        let way = advice.map { ": " + $0 } ?? ""
        return "cannot \(operation) \(subject): \(reason) (\(name))\(way)"
    }

    /// The descriptor is non-blocking and had nothing to give or no room to take.
    public var isWouldBlock: Bool { errno == EAGAIN }

    func advising(_ advice: String) -> SystemError {
        var copy = self
        copy.advice = advice
        return copy
    }
}

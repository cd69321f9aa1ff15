/// What the kernel counts of one link: a line of `/proc/net/dev`.
struct LinkCounters {
    var framesReceived: UInt64
    var bytesSent: UInt64
    var framesSent: UInt64

    /// The name and a colon, eight numbers of what was received (bytes, frames, …), then those of what was sent.
    init(_ link: String, in text: String) throws(BedError) {
        for line in text.split(separator: "\n") {
            let parts = line.split { $0 == " " || $0 == ":" }
            guard parts.count > 10, parts[0] == link, let received = UInt64(parts[2]), let bytes = UInt64(parts[9]),
                let frames = UInt64(parts[10])
            else { continue }
            (framesReceived, bytesSent, framesSent) = (received, bytes, frames)
            return
        }
        throw BedError("there is no link \(link).")
    }
}

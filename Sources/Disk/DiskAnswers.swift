import Shipping
import Wire

/// What the standby of one session is asked about its images: parts of their contents, and what they hold.
package struct DiskAnswers: Sendable {
    struct DigestQuestion: Hashable, Sendable {
        var disk: UInt16
        var first: UInt64
    }

    struct Read: Sendable {
        var status: UInt32
        var data: [UInt8]
    }

    let digests = Answers<DigestQuestion, [UInt8]>()
    /// By the number that the question was given.
    let reads = Answers<UInt64, Read>()

    package init() {}

    /// False when nobody asked.
    package func take(_ reply: DiskDigestsReply) -> Bool {
        digests.deliver(Array(reply.digests), to: DigestQuestion(disk: reply.disk, first: reply.first))
    }

    package func take(_ reply: DiskReadReply) -> Bool {
        reads.deliver(Read(status: reply.status, data: Array(reply.data)), to: reply.id)
    }

    /// The standby answers no more.
    package func close(_ reason: String) {
        digests.close(reason)
        reads.close(reason)
    }
}

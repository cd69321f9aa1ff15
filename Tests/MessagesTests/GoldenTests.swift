import Foundation
import Messages
import Testing
import Wire

/// What agents of different builds say to each other. A file in `Golden` is what an agent that runs somewhere sends: it is
/// read, and written again byte for byte. Change none of them; add one for each new member.
@Suite struct GoldenTests {
    private static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Golden")

    /// By the first word of the file's name.
    private static let kinds: [String: any SessionMessage.Type] = [
        "hello": HelloMessage.self, "offer": OfferMessage.self, "accept": AcceptMessage.self,
        "refuse": RefuseMessage.self, "register": RegisterMessage.self, "check": CheckMessage.self,
        "checked": CheckedMessage.self, "goodbye": GoodbyeMessage.self, "wish": WishMessage.self,
        "tuning": TuningMessage.self, "attach": AttachMessage.self, "attached": AttachedMessage.self,
        "detach": DetachMessage.self,
    ]

    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []).sorted()

    @Test(arguments: names) func aMessageIsWrittenAsItWasRead(name: String) throws {
        let golden = try Data(contentsOf: Self.directory.appendingPathComponent(name)).dropLast()
        let kind = try #require(Self.kinds[String(name.prefix { $0.isLetter })])
        try rewrite(kind, Array(golden))
    }

    private func rewrite<Message: SessionMessage>(_: Message.Type, _ golden: [UInt8]) throws {
        let message = try Message(.init(bytes: golden))
        let written = message.frame.readableBytesView.dropFirst(FrameHeader.size)
        #expect(String(decoding: written, as: UTF8.self) == String(decoding: golden, as: UTF8.self))
    }

    @Test func everyKindOfMessageIsCovered() {
        #expect(Set(Self.names.map { String($0.prefix { $0.isLetter }) }) == Set(Self.kinds.keys))
    }
}

import Foundation

/// What the program `romulus-bed-client` does. It runs as a process of its own in the client's namespace, because a
/// namespace belongs to threads, and Swift's tasks do not keep to theirs. Orders are words `name=value`:
///
///     echo   address= port= connections= bytes= interval_ms= window= drain_ms=
///     redis  address= port= key= interval_ms=
///     ledger address= port= disk= first= slots= random=0|1 interval_ms= run=
///            each prints lines of JSON; SIGTERM ends the work and prints the line with event "final"
///     exec   address= port=  COMMAND     runs a shell command in the guest; its output, its exit code
///     ask    address= port=  LINE        sends one line and prints the line that answers
///     bed                                makes a bed to look around in, prints its namespaces, and waits for a signal
///     wire   link= peer= delay_ms=       joins two taps of that name, here and in the namespace `peer`
///     guard  RUN                         removes what that run left once standard input ends
public enum ClientProgram {
    public static func main(_ arguments: [String]) -> Int32 {
        guard arguments.count > 1 else { return refuse("which of echo, redis, ledger, exec, ask, bed, wire, guard?") }
        let words = Array(arguments.dropFirst(2))
        do throws(BedError) {
            switch arguments[1] {
            case "echo": return try echo(Orders(words))
            case "redis": return try redis(Orders(words))
            case "ledger": return try ledger(Orders(words))
            case "exec": return try exec(Orders(words))
            case "ask": return try ask(Orders(words))
            case "bed": return try hold()
            case "wire": return try wire(Orders(words))
            case "guard": return try watch(words)
            default: return refuse("unknown order \(arguments[1]).")
            }
        } catch {
            return refuse(error.description)
        }
    }

    private static func refuse(_ why: String) -> Int32 {
        FileHandle.standardError.write(Data("romulus-bed-client: \(why)\n".utf8))
        return 64
    }

    private static func echo(_ orders: Orders) throws(BedError) -> Int32 {
        var options = EchoClient.Options()
        options.address = orders.text("address") ?? options.address
        options.port = try orders.port() ?? options.port
        options.connections = try orders.number("connections") ?? options.connections
        options.recordBytes = try orders.number("bytes") ?? options.recordBytes
        options.intervalMs = try orders.number("interval_ms") ?? options.intervalMs
        options.window = try orders.number("window") ?? options.window
        options.drainMs = try orders.number("drain_ms") ?? options.drainMs
        Stop.listen()
        var client = try EchoClient(options)
        return finish(client.run(until: { Stop.isAsked }, progress: show))
    }

    private static func redis(_ orders: Orders) throws(BedError) -> Int32 {
        var options = RedisClient.Options()
        options.address = orders.text("address") ?? options.address
        options.port = try orders.port() ?? options.port
        options.key = orders.text("key") ?? options.key
        options.intervalMs = try orders.number("interval_ms") ?? options.intervalMs
        Stop.listen()
        var client = try RedisClient(options)
        return finish(client.run(until: { Stop.isAsked }, progress: show))
    }

    private static func ledger(_ orders: Orders) throws(BedError) -> Int32 {
        var options = LedgerClient.Options()
        options.address = orders.text("address") ?? options.address
        options.port = try orders.port() ?? options.port
        options.disk = orders.text("disk") ?? options.disk
        options.firstSlot = try orders.number("first") ?? options.firstSlot
        options.slots = try orders.number("slots") ?? options.slots
        options.isRandom = try orders.number("random").map { $0 != 0 } ?? options.isRandom
        options.intervalMs = try orders.number("interval_ms") ?? options.intervalMs
        options.run = try orders.number("run").map { UInt64($0) } ?? options.run
        Stop.listen()
        var client = try LedgerClient(options)
        return finish(client.run(until: { Stop.isAsked }, progress: show))
    }

    private static func show<Report: WorkloadReport>(_ report: Report, isFirst: Bool) {
        ClientLine(event: isFirst ? .running : .progress, report: report).printed()
    }

    private static func finish<Report: WorkloadReport>(_ report: Report) -> Int32 {
        ClientLine(event: .final, report: report).printed()
        return report.isClean ? 0 : 1
    }

    private static func exec(_ orders: Orders) throws(BedError) -> Int32 {
        let stream = try Stream(to: orders.text("address") ?? "127.0.0.1", port: try orders.port() ?? 10)
        var bytes: [UInt8] = []
        let head = try line(from: stream, after: orders.rest, &bytes).split(separator: " ").compactMap { Int($0) }
        guard head.count == 2 else { throw BedError("the guest's command server answers something else.") }
        while bytes.count < head[1] {
            guard stream.receive(into: &bytes, within: .seconds(1)) else { throw BedError("the guest hung up.") }
        }
        FileHandle.standardOutput.write(Data(bytes))
        return Int32(head[0])
    }

    private static func ask(_ orders: Orders) throws(BedError) -> Int32 {
        guard let port = try orders.port() else { throw BedError("ask needs port=.") }
        let stream = try Stream(to: orders.text("address") ?? "127.0.0.1", port: port)
        var bytes: [UInt8] = []
        print(try line(from: stream, after: orders.rest, &bytes))
        return 0
    }

    /// Sends a line and takes the line that answers; what follows it stays in `bytes`.
    private static func line(
        from stream: Stream, after words: [String], _ bytes: inout [UInt8]
    ) throws(BedError) -> String {
        guard stream.sendAll(Array("\(words.joined(separator: " "))\n".utf8)) else {
            throw BedError("the guest hung up.")
        }
        while true {
            if let end = bytes.firstIndex(of: 10) {
                defer { bytes.removeFirst(end + 1) }
                return String(decoding: bytes[..<end], as: UTF8.self)
            }
            guard stream.receive(into: &bytes, within: .seconds(1)) else { throw BedError("the guest hung up.") }
        }
    }

    private static func hold() throws(BedError) -> Int32 {
        Stop.listen()
        let bed = try Bed()
        defer { bed.tearDown() }
        for host in [bed.a, bed.b, bed.lan, bed.client] {
            FileHandle.standardOutput.write(Data("\(host.enter(["bash"]).joined(separator: " "))\n".utf8))
        }
        FileHandle.standardOutput.write(Data("\(bed.run) is ready.\n".utf8))
        while !Stop.isAsked { usleep(50_000) }
        return 0
    }

    private static func wire(_ orders: Orders) throws(BedError) -> Int32 {
        guard let link = orders.text("link"), let peer = orders.text("peer"), let delay = try orders.number("delay_ms")
        else { throw BedError("wire needs link=, peer= and delay_ms=.") }
        Stop.listen()
        var wire = try LongWire(link: link, peer: peer, delayMilliseconds: delay)
        FileHandle.standardOutput.write(Data("ready\n".utf8))
        wire.run(while: { !Stop.isAsked })
        return 0
    }

    private static func watch(_ words: [String]) throws(BedError) -> Int32 {
        guard words.count == 1, words[0].hasPrefix("\(Leftovers.word)-") else { throw BedError("guard needs a run.") }
        for number in [SIGTERM, SIGINT, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
        var byte: UInt8 = 0
        while true {
            let count = read(0, &byte, 1)
            if count == 0 || (count < 0 && errno != EINTR) { break }
        }
        Leftovers.remove(run: words[0])
        return 0
    }

    /// `name=value` words up to the first word that is none; the rest is the command.
    struct Orders {
        private var values: [String: String] = [:]
        let rest: [String]

        init(_ words: [String]) throws(BedError) {
            var index = 0
            while index < words.count {
                let parts = words[index].split(separator: "=", maxSplits: 1)
                guard parts.count == 2, parts[0].allSatisfy({ $0.isLowercase || $0 == "_" }) else { break }
                values[String(parts[0])] = String(parts[1])
                index += 1
            }
            if index < words.count, words[index] == "--" { index += 1 }
            rest = Array(words[index...])
        }

        func text(_ name: String) -> String? { values[name] }

        func number(_ name: String) throws(BedError) -> Int? {
            guard let text = values[name] else { return nil }
            guard let number = Int(text), number >= 0 else { throw BedError("\(name)=\(text) is no number from 0 on.") }
            return number
        }

        func port() throws(BedError) -> UInt16? {
            guard let number = try number("port") else { return nil }
            guard let port = UInt16(exactly: number) else { throw BedError("port=\(number) is above 65535.") }
            return port
        }
    }
}

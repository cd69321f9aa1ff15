import Glibc
import LinuxSystem
import Testing

@Suite struct ProcessorAlarmTests {
    private static func isHeard(_ alarm: borrowing ProcessorAlarm, within milliseconds: Int32) -> Bool {
        var slot = pollfd(fd: alarm.number, events: Int16(POLLIN), revents: 0)
        return poll(&slot, 1, milliseconds) == 1
    }

    /// What it tells is how much the process had used when it went off.
    @Test func goesOffOnceTheProcessHasWorkedSoMuch() throws {
        let child = try ChildProcess.counter()
        #expect(try child.ask("1") == "done")
        let time = try ProcessorTime(of: child.pid)
        let alarm = try ProcessorAlarm(of: child.pid)
        let before = time.total() ?? 0
        alarm.set(atTotal: before + 30_000_000)
        let early = Self.isHeard(alarm, within: 100)
        #expect(!early, "the process rested")
        try child.send("3000000")
        let heard = Self.isHeard(alarm, within: 20_000)
        let used = (time.total() ?? 0) - before
        #expect(heard && used >= 30_000_000, "\(used) ns")
        alarm.take()
        let again = Self.isHeard(alarm, within: 50)
        #expect(!again, "once")
        #expect(try child.readLine() == "done")
    }

    @Test func goesOffAtOnceForWhatIsPast() throws {
        let child = try ChildProcess.counter()
        #expect(try child.ask("100000") == "done")
        let alarm = try ProcessorAlarm(of: child.pid)
        alarm.set(atTotal: 1)
        let heard = Self.isHeard(alarm, within: 5000)
        #expect(heard)
    }

    @Test func anotherSettingTakesThePlaceOfTheFirst() throws {
        let child = try ChildProcess.counter()
        #expect(try child.ask("100000") == "done")
        let alarm = try ProcessorAlarm(of: child.pid)
        alarm.set(atTotal: 1)
        alarm.set(atTotal: .max / 2)
        let heard = Self.isHeard(alarm, within: 100)
        #expect(!heard)
    }

    @Test func aProcessThatIsGoneHasNone() throws {
        let child = try ChildProcess(["/bin/true"])
        _ = child.waitForEnd()
        #expect(systemError { _ = try ProcessorAlarm(of: child.pid) }?.errno == ESRCH)
    }
}

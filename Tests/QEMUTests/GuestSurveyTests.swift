import Hypervisor
import Model
import QEMU
import Testing

/// What a short look at a monitor's path finds.
@Suite(.serialized, .timeLimit(.minutes(2))) struct GuestSurveyTests {
    private let guests: any GuestSurvey = QEMUGuests()

    @Test func nothingIsThere() throws {
        let path = "\(TestDirectory().path)/none.qmp"
        guard case .absent(let words) = guests.look(at: path) else {
            Issue.record("something was found at \(path)")
            return
        }
        #expect(words == guests.absence(at: path))
        #expect(throws: SessionError.self) { try guests.examine(at: path) }
    }

    @Test func aGuestIsThere() throws {
        let directory = TestDirectory()
        let guest = try RunningQEMU(["-display", "none", "-nodefaults", "-m", "32"], in: directory)
        try guest.connect().close()
        guard case .ready = guests.look(at: guest.monitorPath) else {
            Issue.record("\(guests.look(at: guest.monitorPath))")
            return
        }
        let found = try guests.examine(at: guest.monitorPath)
        #expect(found.refusals == [] && found.description?.process.pid == guest.pid)
    }

    @Test func whatWaitsForAGuestIsNone() throws {
        let directory = TestDirectory()
        let guest = try RunningQEMU(["-display", "none", "-nodefaults", "-incoming", "defer"], in: directory)
        try guest.connect().close()
        guard case .absent(let words) = guests.look(at: guest.monitorPath) else {
            Issue.record("\(guests.look(at: guest.monitorPath))")
            return
        }
        #expect(words.hasSuffix("has no guest that runs (inmigrate)"))
    }
}

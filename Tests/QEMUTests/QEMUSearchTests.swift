import Hypervisor
import Model
import QEMU
import Testing

/// Finding a guest by its name, from command lines as people and tools write them.
@Suite struct QEMUSearchTests {
    struct Line: Sendable, CustomTestStringConvertible {
        var words: [String]
        var name = "web"
        var monitors: [String] = []
        var isOfLibvirt = false
        var testDescription: String { words.joined(separator: " ") }
    }

    static let lines = [
        Line(words: ["-name", "web", "-qmp", "unix:/run/web.qmp,server=on,wait=off"], monitors: ["/run/web.qmp"]),
        Line(words: ["-name", "guest=web,debug-threads=on", "-qmp", "unix:m.qmp,server,nowait"], monitors: ["m.qmp"]),
        Line(words: ["-name", "web,process=vm", "-qmp-pretty", "unix:/a,,b,server=on"], monitors: ["/a,b"]),
        // It connects to somebody, or listens for TCP.
        Line(words: ["-name", "web", "-qmp", "unix:/run/web.qmp", "-qmp", "tcp:127.0.0.1:4444,server=on"]),
        Line(words: ["-qmp", "unix:/run/web.qmp,server=on"], name: "", monitors: ["/run/web.qmp"]),
        Line(
            words: ["--name", "web", "-chardev", "socket,id=c,path=/c,server=on,wait=off", "-qmp", "chardev:c"],
            monitors: ["/c"]),
        Line(
            words: [
                "-name", "web", "-chardev", "socket,id=c,path=/c,server=on", "-mon", "chardev=c,mode=control", "-mon",
                "chardev=d,mode=control", "-chardev", "socket,path=/d,id=d,server,nowait",
            ], monitors: ["/c", "/d"]),
        Line(
            words: ["-name", "web", "-chardev", "socket,id=h,path=/h,server=on", "-mon", "chardev=h,mode=readline"]),
        // libvirt 9.0 passes its monitor as a descriptor, older ones named its path.
        Line(
            words: [
                "-name", "guest=web,debug-threads=on", "-chardev", "socket,id=charmonitor,fd=30,server=on,wait=off",
                "-mon", "chardev=charmonitor,id=monitor,mode=control",
            ], isOfLibvirt: true),
        Line(
            words: [
                "-name", "guest=web", "-chardev", "socket,id=charmonitor,path=/var/m.sock,server,nowait", "-mon",
                "chardev=charmonitor,id=monitor,mode=control", "-chardev",
                "socket,id=romulus,path=/run/web.qmp,server=on,wait=off", "-mon", "chardev=romulus,mode=control",
            ], monitors: ["/run/web.qmp"], isOfLibvirt: true),
    ]

    @Test(arguments: lines) func whatACommandLineOffers(line: Line) {
        let command = RunningCommand(pid: 7, arguments: line.words)
        #expect(command.name == line.name && command.monitors == line.monitors)
        #expect(command.isOfLibvirt == line.isOfLibvirt)
    }

    private func command(_ pid: Int32, _ name: String, _ monitors: [String], libvirt: Bool = false) -> RunningCommand {
        var command = RunningCommand(pid: pid, arguments: ["-name", name, "-uuid", "AB-\(pid)"])
        command.monitors = monitors
        command.isOfLibvirt = libvirt
        return command
    }

    private func choose(
        _ name: String, by manager: GuestManager? = nil, _ commands: [RunningCommand], free: [String] = []
    ) -> GuestSearch {
        QEMUSearch.choose(name, manager, among: commands) { free.contains($0) }
    }

    @Test func theOneOfThatNameIsFound() {
        let commands = [command(1, "web", ["/web"]), command(2, "db", ["/db"], libvirt: true)]
        #expect(choose("web", commands) == .found(address: "/web", name: "web"))
        #expect(choose("ab-2", commands) == .found(address: "/db", name: "db"))
        #expect(choose("db", by: .libvirt, commands) == .found(address: "/db", name: "db"))
        #expect(choose("web", by: .libvirt, commands) == .none)
        #expect(choose("webs", commands) == .none)
        #expect(choose("", [command(1, "", ["/x"])]) == .none)
    }

    @Test func ofSeveralMonitorsAFreeOne() {
        let commands = [command(1, "web", ["/a", "/b"])]
        #expect(choose("web", commands, free: ["/b"]) == .found(address: "/b", name: "web"))
        #expect(choose("web", commands) == .found(address: "/a", name: "web"))
    }

    @Test func whatCannotBeTakenInHandSaysTheWayOut() {
        func words(_ commands: [RunningCommand]) -> String {
            if case .unusable(let words) = choose("web", commands) { words } else { "" }
        }
        #expect(words([command(1, "web", ["/a"]), command(2, "web", ["/b"])]).contains("pids 1 and 2"))
        #expect(words([command(1, "web", [], libvirt: true)]).contains("“romulus libvirt prepare web”"))
        #expect(words([command(1, "web", [])]).contains("-qmp unix:PATH,server=on,wait=off"))
    }

    @Test func aQEMUThatRunsHereIsFound() throws {
        let directory = TestDirectory()
        let name = "search-\(UInt32.random(in: 0...UInt32.max))"
        let guest = try RunningQEMU(["-display", "none", "-nodefaults", "-m", "32", "-name", name], in: directory)
        try guest.connect().close()
        let found = QEMUGuests().search(for: name, nil)
        #expect(found == .found(address: guest.monitorPath, name: name))
    }
}

import Foundation
import KernelGate
import LinuxSystem
import Model

/// `romulus-gate-renewer LEASE-MS EVERY-MS VM=TAP...`: gates the taps, opens them for the lease's length and renews all of
/// them in one transaction until it is killed. Prints `open` when they are, and then, for each renewal that was not
/// granted, one line that says whose and why.
func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
let arguments = CommandLine.arguments
guard arguments.count > 3, let lease = UInt64(arguments[1]), let every = UInt64(arguments[2]) else { exit(64) }
do {
    let gate = try KernelGate()
    var guests: [VMName] = []
    for argument in arguments.dropFirst(3) {
        let parts = argument.split(separator: "=").map(String.init)
        guard parts.count == 2, let vm = VMName(parts[0]) else { exit(64) }
        try gate.install(vm, before: [GatedLink(parts[1])])
        try gate.open(vm, until: BootClock.now() + lease * 1_000_000)
        guests.append(vm)
    }
    say("open")
    var next = MonotonicClock.now()
    while true {
        next = max(next + every * 1_000_000, MonotonicClock.now())
        MonotonicClock.sleep(until: next)
        let until = BootClock.now() + lease * 1_000_000
        let results = try gate.renew(Dictionary(uniqueKeysWithValues: guests.map { ($0, until) }))
        for (vm, result) in results.sorted(by: { $0.key < $1.key }) where result != .renewed { say("\(vm) \(result)") }
    }
} catch {
    say("failed: \(error)")
    exit(1)
}

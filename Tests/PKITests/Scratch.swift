import Foundation
import TestBed

/// A directory of its own for one test, removed when the test ends, also by a failure.
final class Scratch {
    let path: String

    init() {
        var template = Array("/tmp/romulus-pki-\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("mkdtemp: \(String(cString: strerror(errno)))") }
        path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    func mode(_ name: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: file(name))
        return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? -1
    }

    func text(_ name: String) throws -> String { try String(contentsOfFile: file(name), encoding: .utf8) }

    func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
        try text.write(toFile: file(name), atomically: false, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file(name))
    }
}

/// Runs a program to its end; whether it succeeded, and both outputs.
func run(_ program: String, _ arguments: [String]) throws -> (succeeded: Bool, output: String) {
    let outcome = try Child.outcome(of: [program] + arguments)
    return (outcome.exit == .code(0), outcome.output + outcome.errors)
}

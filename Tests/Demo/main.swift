import Foundation
import TestBed

// What Romulus does, on real input: a Linux guest under load is protected, its host loses power, and the standby goes
// on. Every line says what was seen; the last one is JSON, and the exit code is 0 only if nothing was lost.

struct Result: Encodable {
    var timeToRunningMs: Double
    var clientSilenceMs: Double
    var bytesLost: Int
    var connectionsLost: Int
    var diskEqual: Bool
    var epochs: UInt64
    var pauseMsP50: Double
    var pauseMsP95: Double
}

/// Prints the JSON line; the exit code follows what was seen.
func end(_ result: some Encodable, isGood: Bool) throws -> Never {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    encoder.keyEncodingStrategy = .convertToSnakeCase
    print(String(decoding: try encoder.encode(result), as: UTF8.self))
    exit(isGood ? 0 : 1)
}

do {
    if CommandLine.arguments.dropFirst() == ["levels"] {
        let result = try await LevelsDemo.run()
        try end(result, isGood: result.isGood)
    }
    let result = try await Demo.run()
    try end(result, isGood: result.bytesLost == 0 && result.connectionsLost == 0 && result.diskEqual)
} catch {
    print("The demo failed: \(error)")
    exit(1)
}

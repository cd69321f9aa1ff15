import Fakes
import Foundation
import Standby
import Testing

/// What an agent leaves of a replica is read by another release.
@Suite struct ReplicaManifestTests {
    @Test func theManifestHasTheKeysThatItAlwaysHad() throws {
        let scene = try ReplicaScene()
        _ = try scene.make()
        let path = "\(scene.memoryDirectory)/manifest.json"
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let manifest = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
        #expect(manifest.keys.sorted() == ["command", "image", "offer", "peer", "qemuPID", "slotCapacity"])
        let command = try #require(manifest["command"] as? NSDictionary)
        let expected: NSDictionary = [
            "program": "/bin/fake", "options": [["name": "-m", "value": "1"], ["name": "-S"]], "workingDirectory": "/",
            "monitorPath": "\(scene.scratch.path)/run/qmp.sock",
            "memoryFiles": [
                ["block": "ram", "path": "\(scene.memoryDirectory)/ram.memory", "length": ReplicaScene.ramBytes]
            ], "requiredFiles": [["path": "/dev/null", "purpose": "-kernel"]], "notes": ["a note"],
        ]
        #expect(command == expected)
    }

    @Test func whatAnOlderAgentWroteIsRead() throws {
        let scene = try ReplicaScene()
        _ = try scene.make()
        let offer = try JSONEncoder().encode(scene.offer)
        let text = """
            {"offer":\(String(decoding: offer, as: UTF8.self)),"peer":"alpha","qemuPID":5,"slotCapacity":4194304,
            "image":{"session":{"number":11},"identity":{"node":"beta","incarnation":7},"term":{"number":4},
            "lineage":{"number":5},"primary":"alpha","waits":false},
            "command":{"program":"/usr/bin/qemu-system-x86_64","options":[{"name":"-m","value":"5G"},{"name":"-S"}],
            "workingDirectory":"/","monitorPath":"/run/q","memoryFiles":[{"block":"pc.ram","path":"/dev/shm/x","length":4096}],
            "requiredFiles":[{"path":"/boot/k","purpose":"-kernel"}],"notes":[]}}
            """
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(scene.memoryDirectory)/manifest.json"))
        let manifest = try ReplicaManifest.read(from: scene.memoryDirectory)
        #expect(manifest.qemuPID == 5 && manifest.slotCapacity == 4 << 20)
        #expect(manifest.command.arguments == ["/usr/bin/qemu-system-x86_64", "-m", "5G", "-S"])
        #expect(manifest.command.memoryFiles.first?.length == 4096)
    }
}

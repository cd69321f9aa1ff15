import Libvirt
import Testing

/// A daemon that is not there.
@Suite struct LibvirtErrorTests {
    @Test func itSaysWhichOneCannotBeReached() throws {
        let libvirt = Libvirt(uri: "qemu+unix:///system?socket=/nowhere/libvirt-sock", monitorDirectory: "/run")
        let error = #expect(throws: LibvirtError.self) { try libvirt.domains() }
        #expect(error?.reason == .unreachable)
        #expect(error?.message.contains("/nowhere/libvirt-sock") == true, "\(String(describing: error))")
    }
}

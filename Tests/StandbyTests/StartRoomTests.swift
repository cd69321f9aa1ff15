import Fakes
import Literals
import Model
import Standby
import Testing

/// Memory that is wanted only once a guest is started.
@Suite struct StartRoomTests {
    private static let (web, db, mail, new) = (
        VMName(unchecked: "web"), VMName(unchecked: "db"), VMName(unchecked: "mail"), VMName(unchecked: "new")
    )
    private static let room = StartRoom([
        StartRoom.Guest(web, of: "alpha", bytes: 400), StartRoom.Guest(db, of: "alpha", bytes: 300),
        StartRoom.Guest(mail, of: "gamma", bytes: 500),
    ])

    @Test func hostsAreNotLostTogether() {
        #expect(Self.room.wanted(of: "alpha", besides: Self.new) == 700)
        #expect(Self.room.wanted(of: "alpha", besides: Self.web) == 300)
        #expect(Self.room.wanted(of: "delta", besides: Self.new) == 0)
        #expect(Self.room.mostWanted(besides: Self.new) == 700)
        #expect(Self.room.mostWanted(besides: Self.web) == 500)
        #expect(StartRoom().mostWanted(besides: Self.new) == 0)
    }

    @Test func aShortageNamesTheHostAndItsGuests() throws {
        #expect(Self.room.shortages(available: 700).isEmpty)
        let short = try #require(Self.room.shortages(available: 600).first)
        #expect(short.primary == "alpha" && short.vms == [Self.db, Self.web] && short.wanted == 700)
        #expect(short.available == 600 && short.missing == 100)
        #expect(Self.room.shortages(available: 499).map(\.primary) == ["alpha", "gamma"])
        #expect(Self.room.shortages(available: 499).map(\.missing) == [201, 1])
    }

    /// One at level `restart` is refused for the guests of its own host, one at level `system` for those of any.
    @Test(arguments: [(Level.restart, "alpha", true), (.restart, "gamma", false), (.system, "gamma", true)])
    func whatOthersMayWantIsNotGivenAway(_ level: Level, of other: NodeName, isRefused: Bool) throws {
        let scene = try ReplicaScene()
        if level == .restart {
            scene.offer.session.level = .restart
            (scene.offer.blocks, scene.offer.nics) = ([], [])
        }
        scene.starts = StartRoom([StartRoom.Guest(Self.new, of: other, bytes: 1 << 60)])
        guard isRefused else { return try scene.make().dismantle(keepingMemory: false) }
        let error = #expect(throws: SessionError.self) { try scene.make() }
        #expect(
            error?.code == .refused && error?.message.contains("1099511627776 MiB for guests that are started") == true)
        #expect(scene.imageIsFree)
    }

    /// Nobody is in the way of the guest itself, which was promised its memory before.
    @Test func itsOwnPromiseIsNotCountedTwice() throws {
        let scene = try ReplicaScene()
        scene.starts = StartRoom([StartRoom.Guest(scene.offer.vm, of: "alpha", bytes: 1 << 60)])
        try scene.make().dismantle(keepingMemory: false)
    }
}

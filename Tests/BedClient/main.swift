import Foundation
import TestBed

exit(ClientProgram.main(CommandLine.arguments))

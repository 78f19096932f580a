// What the guest's kernel takes in place of VirtualBox's own ACPI description of the machine (its DSDT).
// VirtualBox's prints debug messages letter by letter and lists each interrupt twice: 3 s of interpreting.
// This one says the same of what the guest uses: the PCI bus, its interrupts, keyboard, and power-off.
// The power button is described elsewhere (in the FADT) and stays VirtualBox's.
DefinitionBlock ("dsdt.aml", "DSDT", 2, "TINY", "TINYDSDT", 1)
{
    Name (PICM, Zero)                   // set by the kernel: nonzero if it uses the I/O APIC
    Method (_PIC, 1) { PICM = Arg0 }

    // VirtualBox's own registers: where its ISA bridge is (that depends on the chipset).
    OperationRegion (SYSI, SystemIO, 0x4048, 8)
    Field (SYSI, DWordAcc, NoLock, Preserve) { IDX, 32, DAT, 32 }
    IndexField (IDX, DAT, DWordAcc, NoLock, Preserve) { Offset (72), IOCA, 32 }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, Zero)
            Name (_BBN, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0xE0000000, 0xFDFFFFFF, 0, 0x1E000000)
            })

            // Interrupt pin A of device n goes to line 16 + n % 8. VirtualBox's devices use no other pin.
            // Without the I/O APIC nothing is listed: the kernel then uses what the BIOS has set up.
            Method (_PRT)
            {
                If (PICM)
                {
                    ^ISA.APDE = 0xBE    // tells VirtualBox that the I/O APIC is in use from now on
                    ^ISA.APAD = 0xEF
                    Return (ROUT)
                }
                Return (Package () { })
            }
            Name (ROUT, Package ()
            {
                Package () { 0x01FFFF, 0, 0, 17 }, Package () { 0x02FFFF, 0, 0, 18 }, Package () { 0x03FFFF, 0, 0, 19 },
                Package () { 0x04FFFF, 0, 0, 20 }, Package () { 0x05FFFF, 0, 0, 21 }, Package () { 0x06FFFF, 0, 0, 22 },
                Package () { 0x07FFFF, 0, 0, 23 }, Package () { 0x08FFFF, 0, 0, 16 }, Package () { 0x09FFFF, 0, 0, 17 },
                Package () { 0x0AFFFF, 0, 0, 18 }, Package () { 0x0BFFFF, 0, 0, 19 }, Package () { 0x0CFFFF, 0, 0, 20 },
                Package () { 0x0DFFFF, 0, 0, 21 }, Package () { 0x0EFFFF, 0, 0, 22 }, Package () { 0x0FFFFF, 0, 0, 23 },
                Package () { 0x10FFFF, 0, 0, 16 }, Package () { 0x11FFFF, 0, 0, 17 }, Package () { 0x12FFFF, 0, 0, 18 },
                Package () { 0x13FFFF, 0, 0, 19 }, Package () { 0x14FFFF, 0, 0, 20 }, Package () { 0x15FFFF, 0, 0, 21 },
                Package () { 0x16FFFF, 0, 0, 22 }, Package () { 0x17FFFF, 0, 0, 23 }, Package () { 0x18FFFF, 0, 0, 16 },
                Package () { 0x19FFFF, 0, 0, 17 }, Package () { 0x1AFFFF, 0, 0, 18 }, Package () { 0x1BFFFF, 0, 0, 19 },
                Package () { 0x1CFFFF, 0, 0, 20 }, Package () { 0x1DFFFF, 0, 0, 21 }, Package () { 0x1EFFFF, 0, 0, 22 },
                Package () { 0x1FFFFF, 0, 0, 23 },
            })

            Device (ISA)
            {
                Method (_ADR) { Return (IOCA) }
                OperationRegion (CONF, PCI_Config, 0, 0xFF)
                Field (CONF, ByteAcc, NoLock, Preserve) { Offset (0xAD), APAD, 8, Offset (0xDE), APDE, 8 }
            }

            Device (KBD)
            {
                Name (_HID, EisaId ("PNP0303"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x60, 0x60, 0, 1)
                    IO (Decode16, 0x64, 0x64, 0, 1)
                    IRQNoFlags () {1}
                })
            }
            Device (MOUS)
            {
                Name (_HID, EisaId ("PNP0F03"))
                Name (_CRS, ResourceTemplate () { IRQNoFlags () {12} })
            }
        }
    }

    Name (_S5, Package () { 5, 5 })
}

/* The boot loader of the guest `tiny`.
 *
 * It reads an unpacked kernel from the sectors before the first partition and starts it by Linux's 64-bit
 * boot protocol (Documentation/x86/boot.rst). A common boot loader and a compressed kernel take 4 s in
 * VirtualBox's interpreter; this takes a tenth of that.
 *
 * The build defines: LOADER_SECTORS (how long this is), KERNEL_LBA and KERNEL_SECTORS (where the kernel
 * is), COMMAND_LINE (a string).
 *
 * Memory:  0x7c00  this loader          0xa000  page tables
 *          0x9000  boot parameters      0x10000 disk buffer
 *          KERNEL_ADDRESS the kernel, where it is linked to run (CONFIG_PHYSICAL_START)
 */
#define LOADER          0x7c00
#define BOOT_PARAMS     0x9000
#define PAGE_TABLES     0xa000
#define BUFFER          0x10000
#define KERNEL_ADDRESS  0x1000000
#define CHUNK_SECTORS   120             /* 60 KiB: stays inside one 64 KiB segment */

        .code16
        .globl  _start
_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $LOADER, %sp
        sti
        cld
        ljmp    $0, $1f
1:      movb    %dl, drive
        call    read_disk               /* the rest of this loader */
        jmp     loader

/* Reads what `packet` describes, or ends here with a message. */
read_disk:
        movb    $0x42, %ah
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        jc      2f
        ret
2:      movw    $message, %si
3:      lodsb
        testb   %al, %al
        jz      4f
        movb    $0x0e, %ah
        movw    $0x0007, %bx
        int     $0x10
        jmp     3b
4:      cli
        hlt
        jmp     4b

message:        .asciz "tiny: cannot read the disk"
drive:          .byte 0
                .balign 4
packet:         .byte 16, 0
packet_count:   .word LOADER_SECTORS - 1
packet_offset:  .word LOADER + 512
packet_segment: .word 0
packet_lba:     .quad 1

        .org    440                     /* the disk's label and its partition table, written by sfdisk */
        .org    510
        .word   0xaa55

loader:
        movw    $0x2401, %ax            /* the A20 gate: memory above 1 MiB */
        int     $0x15

        movw    $BOOT_PARAMS, %di
        movw    $2048, %cx
        xorw    %ax, %ax
        rep stosw

/* Boot parameters: the map of the memory. */
        movw    $BOOT_PARAMS + 0x2d0, %di
        xorl    %ebx, %ebx
1:      movl    $0xe820, %eax
        movl    $20, %ecx
        movl    $0x534d4150, %edx       /* "SMAP" */
        int     $0x15
        jc      2f
        incb    BOOT_PARAMS + 0x1e8
        addw    $20, %di
        testl   %ebx, %ebx
        jnz     1b
2:
/* Boot parameters: the screen, as the BIOS left it: VGA text, 80 columns, 25 lines. */
        movb    $0x03, %ah
        xorw    %bx, %bx
        int     $0x10
        movw    %dx, BOOT_PARAMS + 0x00 /* cursor */
        movb    $3, BOOT_PARAMS + 0x06  /* mode */
        movb    $80, BOOT_PARAMS + 0x07
        movb    $25, BOOT_PARAMS + 0x0e
        movb    $1, BOOT_PARAMS + 0x0f  /* it is a VGA */
        movw    $16, BOOT_PARAMS + 0x10 /* lines of a character */

/* Boot parameters: the setup header. */
        movw    $0xaa55, BOOT_PARAMS + 0x1fe
        movl    $0x53726448, BOOT_PARAMS + 0x202        /* "HdrS" */
        movw    $0x020f, BOOT_PARAMS + 0x206            /* protocol 2.15 */
        movb    $0xff, BOOT_PARAMS + 0x210              /* a loader without a number */
        movb    $1, BOOT_PARAMS + 0x211                 /* loaded high */
        movl    $command_line, BOOT_PARAMS + 0x228
        movl    $command_line_end - command_line, BOOT_PARAMS + 0x238
        movl    $seed, BOOT_PARAMS + 0x250

/* The kernel, chunk by chunk: to the buffer by the BIOS, from there to its place. */
        movw    $CHUNK_SECTORS, packet_count
        movw    $0, packet_offset
        movw    $BUFFER >> 4, packet_segment
        movl    $KERNEL_LBA, packet_lba
        movl    $KERNEL_ADDRESS, %ebp
3:      call    read_disk
        cli
        lgdt    gdt_pointer             /* The BIOS may have reset the segments' limits: */
        movl    %cr0, %eax              /* load 4 GiB ones again for each chunk. */
        orb     $1, %al
        movl    %eax, %cr0
        movw    $0x18, %dx
        movw    %dx, %ds
        movw    %dx, %es
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorw    %dx, %dx
        movw    %dx, %ds
        movw    %dx, %es
        movl    $BUFFER, %esi
        movl    %ebp, %edi
        movl    $CHUNK_SECTORS * 512 / 4, %ecx
        addr32 rep movsl
        sti
        movl    %edi, %ebp
        addl    $CHUNK_SECTORS, packet_lba
        cmpl    $KERNEL_LBA + KERNEL_SECTORS, packet_lba
        jb      3b

/* 64-bit mode, the first GiB of memory mapped to itself by pages of 2 MiB. */
        cli
        movw    $PAGE_TABLES, %di
        movw    $3 * 2048, %cx
        xorw    %ax, %ax
        rep stosw
        movl    $PAGE_TABLES + 0x1003, PAGE_TABLES
        movl    $PAGE_TABLES + 0x2003, PAGE_TABLES + 0x1000
        movw    $PAGE_TABLES + 0x2000, %di
        movl    $0x83, %eax
        movw    $512, %cx
4:      movl    %eax, (%di)
        addl    $0x200000, %eax
        addw    $8, %di
        loop    4b

        movl    %cr4, %eax
        orl     $0x20, %eax             /* PAE */
        movl    %eax, %cr4
        movl    $PAGE_TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       /* EFER */
        rdmsr
        orl     $0x100, %eax            /* long mode */
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax       /* paging, protection */
        movl    %eax, %cr0
        ljmpl   $0x10, $long_mode

        .code64
long_mode:
        movl    $0x18, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $LOADER, %esp
        movl    $BOOT_PARAMS, %esi
        movl    $KERNEL_ADDRESS, %eax
        jmp     *%rax

        .balign 8
gdt:    .quad   0, 0
        .quad   0x00af9b000000ffff      /* 0x10: code, 64 bit */
        .quad   0x00cf93000000ffff      /* 0x18: data, 4 GiB */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt

/* Fills the kernel's random pool at once (SETUP_RNG_SEED). A constant: a test guest has no source of entropy
 * to wait for, and its SSH server would wait. Nothing that this guest encrypts is secret. */
        .balign 8
seed:   .quad   0                       /* no further data */
        .long   9, 32
        .fill   32, 1, 0x5a

command_line:
        .asciz  COMMAND_LINE
command_line_end:
        .org    LOADER_SECTORS * 512

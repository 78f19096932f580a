/* How the guest's Dropbear differs from the default. */
#define DROPBEAR_REEXEC 0      /* a fork is enough: no new process image for each connection */
#define DROPBEAR_SMALL_CODE 0  /* fast code instead */
#define DO_MOTD 0
#define SFTPSERVER_PATH "/usr/lib/sftp-server"

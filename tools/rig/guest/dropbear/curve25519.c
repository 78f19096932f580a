/* Takes the place of Dropbear's curve25519.c, a compact implementation that needs 3 s for a handshake in
 * VirtualBox's interpreter: libsodium's needs a twentieth of the instructions. */
#include "includes.h"
#include "curve25519.h"
#include "dbrandom.h"

#include <sodium/crypto_scalarmult_curve25519.h>
#include <sodium/crypto_sign_ed25519.h>

enum { KEY = 32, SIGNATURE = 64 };

void dropbear_curve25519_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p)
{
    static const unsigned char base[KEY] = {9};

    if (memcmp(p, base, KEY) == 0)
        crypto_scalarmult_curve25519_base(q, n); /* a table makes this one cheaper still */
    else if (crypto_scalarmult_curve25519(q, n, p) != 0)
        memset(q, 0, KEY); /* a weak point: Dropbear refuses an all-zero secret */
}

void dropbear_ed25519_make_key(unsigned char *pk, unsigned char *sk)
{
    unsigned char both[2 * KEY];

    genrandom(sk, KEY);
    crypto_sign_ed25519_seed_keypair(pk, both, sk);
}

void dropbear_ed25519_sign(const unsigned char *m, unsigned long mlen, unsigned char *s, unsigned long *slen,
                           const unsigned char *sk, const unsigned char *pk)
{
    unsigned char both[2 * KEY];

    memcpy(both, sk, KEY);
    memcpy(both + KEY, pk, KEY);
    crypto_sign_ed25519_detached(s, NULL, m, mlen, both);
    *slen = SIGNATURE;
}

int dropbear_ed25519_verify(const unsigned char *m, unsigned long mlen, const unsigned char *s,
                            unsigned long slen, const unsigned char *pk)
{
    return slen < SIGNATURE ? -1 : crypto_sign_ed25519_verify_detached(s, m, mlen, pk);
}

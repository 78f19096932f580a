# Splits user-data into parts: FOLDER/N.type, N.encoding and N.body. What is not a multipart MIME message, in the
# shape that Python's email package gives it, is one part.
function begin(kind) {
    number++
    type = kind
    encoding = "7bit"
    body = folder "/" number ".body"
    printf "" > body
    first = 1
}
function finish() {
    if (!number)
        return
    print type > folder "/" number ".type"
    print encoding > folder "/" number ".encoding"
    close(body)
}
NR == 1 && /^Content-Type: multipart\/mixed; boundary=/ {
    boundary = "--" substr($0, index($0, "boundary=") + 10)
    sub(/"$/, "", boundary)
    next
}
NR == 1 && /^#cloud-config/ { begin("text/cloud-config") }
NR == 1 && /^#!/ { begin("text/x-shellscript") }
boundary && $0 == boundary "--" { exit }
boundary && $0 == boundary {
    finish()
    begin("")
    header = 1
    next
}
header && /^Content-Type: / { type = substr($2, 1, length($2) - 1) }
header && /^Content-Transfer-Encoding: / { encoding = $2 }
header && /^$/ { header = 0; next }
header || !number { next }
# The line break before a boundary belongs to it.
{
    printf "%s%s", first ? "" : "\n", $0 > body
    first = 0
}
END {
    if (number && !boundary)
        printf "\n" > body
    finish()
    if (!number) {
        print "user-data: neither a cloud-config, nor a script, nor a multipart message" > "/dev/stderr"
        exit 1
    }
}

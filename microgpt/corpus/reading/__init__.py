"""From files to documents: plain text, chats, tables, compressed or not."""
